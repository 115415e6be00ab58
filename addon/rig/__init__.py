"""What Mien needs to know about a rig: which keys and bones it has, and how its bones turn."""
