"""Tables as `kubectl get` shows them, made of plain dicts; knows neither store nor HTTP."""
