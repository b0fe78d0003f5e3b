"""Where people are in a picture: faces, bodies, wrists and hands, by MediaPipe's networks. Judges nothing; the hands check does.

weights       where the networks come from; `python -m renderfarm.people.weights` brings them
litert        runs them, on one thread
bodies        faces, and bodies with 33 landmarks: one look a picture, whoever asks
palms         palms, and the joints of a hand
handsearch    every hand of a picture: at palms, and where wrists promise one
silhouette    how many fingers the outline of a hand shows
"""
