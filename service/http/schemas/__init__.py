"""What goes over the wire, one noun each: requests are checked with these types, answers are made of them.

The OpenAPI document shows the same types, so that neither can differ from it.
"""
