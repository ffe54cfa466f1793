"""The second pocket model: a world of several things, a learned autoencoder, velocity prediction. Not published yet."""
