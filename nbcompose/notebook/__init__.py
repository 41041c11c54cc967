"""The notebook's side: magics, cards, completion. Nothing else imports it, so that a script needs no Jupyter."""
