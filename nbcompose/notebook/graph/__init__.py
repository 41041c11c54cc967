"""`%graph`: the services of the notebook as a live picture, from which their apis can be called."""
