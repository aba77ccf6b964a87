"""`digit/2`: ink told from paper by what it is; a module for each step on the way from a picture to one digit."""
