def write(r):
    return 0
