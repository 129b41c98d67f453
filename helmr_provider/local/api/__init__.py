"""The operations of the API over HTTP: requests in, answers out; what they mean is in `state`."""
