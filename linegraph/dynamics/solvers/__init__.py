"""How equilibria and flows are computed."""
