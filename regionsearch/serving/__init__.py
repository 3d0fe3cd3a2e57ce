"""The gRPC service: a thin shell around what is below it."""
