"""Model selection: capacitance over the first epochs, predictions of the final accuracy, rankings of candidates."""
