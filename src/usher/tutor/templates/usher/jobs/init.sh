./manage.py lms migrate usher_lms
./manage.py lms usher_provision --file "$(dirname "$LMS_CFG")/usher.json"
