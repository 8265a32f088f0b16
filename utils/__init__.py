"""Everything around the networks that knows neither files of a data set nor which network it serves."""
