"""What a real service answers, recorded once, is what the OpenAPI document shows: `python -m tests.answers`."""
