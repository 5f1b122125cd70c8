"""Questions with one right answer, made from a seed, each family with a solver that reads the question's text."""
