"""What turns an aggregate into a release: the decision on it, the bundle, the round trip."""
