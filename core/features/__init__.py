"""What the classifiers look at: orientation histograms, deep features, geometry."""
