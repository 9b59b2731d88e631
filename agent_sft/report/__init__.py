"""Tables, figures and pages: what was found out, made to be looked at."""
