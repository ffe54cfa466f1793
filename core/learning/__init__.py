"""What trains: adapters, weights, token vectors."""
