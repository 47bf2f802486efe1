"""People and programs: HTTP, command line, settings, batching, the web page. Joins `models` and `index`."""
