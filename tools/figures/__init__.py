"""The figures of the two papers, one function a figure; tools.make_figures calls them."""
