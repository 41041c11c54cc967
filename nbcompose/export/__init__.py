"""A notebook's services as a script that runs without Jupyter. exporter.py does the whole, step by step."""
