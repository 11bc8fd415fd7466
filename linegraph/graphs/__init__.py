"""Line, neuron, coarse and sampled graphs."""
