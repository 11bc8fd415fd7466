"""The check of P against autograd on the network at hand, and the decision which side is wrong if they differ."""
