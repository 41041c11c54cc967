"""What a zygote would import for a long time."""

import time

time.sleep(3600)
