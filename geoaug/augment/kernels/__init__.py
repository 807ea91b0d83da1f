"""What happens to pixels: three executors of one plan. `README.md` beside this file is the way in.

May import `planning`, `physics` and the generator; operations and `Compose` import this.
"""
