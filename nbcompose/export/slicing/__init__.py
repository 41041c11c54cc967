"""The statements that the chosen services need, in order, and why some cannot be had. Pure."""
