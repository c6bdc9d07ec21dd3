"""Transfer Lab's library: a zip of class folders becomes an honest, shareable image classifier. Knows no web page.

Importing this package is cheap; torch is imported by the modules that compute.
"""

__version__ = "0.1.0"
