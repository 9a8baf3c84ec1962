"""The page in a browser: a package, since its tests share one browser, and pytest has that scope for packages only."""
