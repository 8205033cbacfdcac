"""How single values are written and judged, and the causes that say what is wrong; knows no kinds."""
