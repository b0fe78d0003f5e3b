"""How good a set of pictures is: distances to a reference, fit to the prompts, diversity, consistency, counts; each with its interval.

distances     the formulas over features; pure
intervals     an estimate, its bias and its interval, by leaving groups out
gather        an output's delivered pictures, or a folder's → samples
figures       samples → figures, of one set or of two against each other
campaign      how far the pictures of one product or style differ
geneval       what GenEval calls right, over boxes that a detector found
fragility     prompts edited a little, and how far their pictures move
page          figures → one HTML file
"""
