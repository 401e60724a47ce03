"""Images: load any kind of input as RGB, and preprocess it as the weights expect."""
