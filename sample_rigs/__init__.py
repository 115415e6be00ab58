"""The sample head: the script that builds it, and what it builds."""
