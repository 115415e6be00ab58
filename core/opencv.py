"""OpenCV, kept quiet: import it from here.

FFmpeg and OpenCV write every oddity of a file to stderr. Mien says in its own words what
is wrong with a file, so both are silenced. Their settings are read from the environment
when OpenCV first opens a video, hence before the import.
"""

import os

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import cv2

cv2.setLogLevel(0)

__all__ = ["cv2"]
