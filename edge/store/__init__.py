"""What lies on the edge's disk: blobs, partial blobs, the index, installed courseware, and the search for rot."""
