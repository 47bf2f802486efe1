"""Load tests: open-loop arrivals on a service, a report, objectives that are met or missed."""
