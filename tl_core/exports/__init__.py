"""A bundle in other forms, each checked against the predictor before it is offered."""
