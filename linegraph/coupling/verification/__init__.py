"""Whether P is right for the network at hand, and which side is wrong where it is not."""
