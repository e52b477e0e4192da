"""The contract: build, check, train, count and store an autoencoder."""
