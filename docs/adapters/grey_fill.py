"""A painting program as small as can be, for command.yaml: python3 grey_fill.py IMAGE MASK OUTPUT."""

import sys

import cv2

image, mask = cv2.imread(sys.argv[1]), cv2.imread(sys.argv[2], cv2.IMREAD_GRAYSCALE)
image[mask == 255] = image[mask == 0].mean(0).round()
cv2.imwrite(sys.argv[3], image)
