"""StreamClassify for both clients: images in, outcomes by number out, over a stream that is opened again if it ends."""
