"""The notebook's side: magics, cards, completion. Never imported by `import nbcompose`; the registry knows nothing of it."""
