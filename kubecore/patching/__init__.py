"""The patch types, applied to plain dicts; knows neither store nor HTTP."""
