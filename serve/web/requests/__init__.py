"""What callers send: headers, bodies, forms, options; each within bounds."""
