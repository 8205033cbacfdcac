"""Who asks for what, and whether they may; reads objects, changes none, and answers nothing itself."""
