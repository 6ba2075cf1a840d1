"""Do pages stay fast when millions of tasks lie around what they show?"""
