"""Which kinds there are and what shape they have; knows no stored object and no request."""
