"""Model selection: capacitance over the first epochs, predictions from it, rankings of candidates."""
