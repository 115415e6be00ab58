"""How the weights in models/ were made. Needs torch and scikit-learn; never in the extension zip."""
