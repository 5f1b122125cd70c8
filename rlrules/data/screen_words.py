"""What stands on synthetic phone screens, and how it is asked for."""

ICON_WORDS = {
    "menu": ("menu icon", "Open the side menu"),
    "back": ("back arrow", "Leave this page with the arrow at the top"),
    "close": ("cross", "Close this page with the cross"),
    "search": ("magnifying glass", "Start a search"),
    "add": ("plus", "Attach something with the plus"),
    "more": ("three dots", "Show further options"),
    "heart": ("heart", "Mark this as a favourite"),
    "share": ("share icon", "Share this"),
    "camera": ("camera icon", "Start a video call"),
    "bell": ("bell icon", "Look at the notifications"),
    "person": ("profile icon", "Open your profile"),
    "mic": ("microphone", "Speak instead of typing"),
    "phone": ("phone icon", "Make a voice call"),
    "play": ("play button", "Go on with the music"),
    "pause": ("pause button", "Stop the music for a moment"),
    "skip": ("skip button", "Go to the next song"),
    "check": ("tick at the top", "Confirm with the tick"),
    "pencil": ("round button with the pencil", "Write a new message"),
    "download": ("download icon", "Keep this song on the phone"),
    "filter": ("filter icon", "Narrow down what is listed"),
}
"""Of icons that stand alone on a screen: what they look like, and what they are for."""

APPS = {
    "Camera": "camera",
    "Clock": "clock",
    "Mail": "mail",
    "Phone": "phone",
    "Maps": "pin",
    "Photos": "photo",
    "Music": "music",
    "Calendar": "calendar",
    "Files": "folder",
    "Browser": "globe",
    "Chat": "chat",
    "Settings": "gear",
    "Weather": "sun",
    "Shop": "cart",
    "Recorder": "mic",
    "Notes": "pencil",
    "Contacts": "person",
    "Videos": "play",
    "Downloads": "download",
    "Vault": "lock",
}
SETTINGS = {
    "Bluetooth": ("bluetooth", "Pair with devices nearby"),
    "Wi-Fi": ("wifi", "Not connected"),
    "Battery": ("battery", "About 9 hours left"),
    "Display": ("sun", "Brightness, text size"),
    "Notifications": ("bell", "7 apps may send them"),
    "Privacy": ("lock", "Permissions, passwords"),
    "Location": ("pin", "Used by 3 apps"),
    "Sound": ("music", "Volume, ringtone"),
    "Storage": ("folder", "61 % used"),
    "Date and time": ("clock", "Set by the network"),
    "Languages": ("globe", "English, Deutsch"),
    "Accounts": ("person", "2 accounts"),
    "Camera access": ("camera", "Allowed"),
    "Calls": ("phone", "Voicemail, call log"),
    "Apps": ("more", "43 installed"),
    "Wallpaper": ("photo", "Lock screen, home screen"),
}
PEOPLE = (
    *("Ada Brook", "Ben Castillo", "Chloe Dunn", "Dmitri Ek", "Elif Falk", "Farid Gomez", "Greta Hahn", "Hugo Ito"),
    *("Ines Jansen", "Jonas Kim", "Kavya Lind", "Leo Moreau", "Mina Novak", "Nils Okoye", "Olga Perez", "Priya Quist"),
)
SUBJECTS = (
    *("Lunch on Friday?", "Your invoice", "Trip photos", "Minutes of the meeting", "Keys are at the desk"),
    *("New flat!", "Re: broken printer", "Tickets for Sunday", "A question about the draft", "Choir practice moved"),
    *("Parcel on its way", "Book club", "Recipe you asked for", "Happy birthday", "Change of plan", "Garden tools"),
)
SNIPPETS = (
    *(
        "I thought we could meet at noon near",
        "Please find attached what we agreed on",
        "They came out rather well, see",
    ),
    *("Thanks for the quick answer, I will", "Could you have a look before Tuesday", "Just so that you know, the door"),
)
FIELDS = {
    "First name": ("Robin", "Sascha", "Noor"),
    "Last name": ("Winter", "Acosta", "Bell"),
    "Email": ("robin@example.org", "noor@example.org"),
    "City": ("Lisbon", "Ghent", "Osaka"),
    "Street": ("4 Mill Lane", "12 Harbour Road"),
    "Postcode": ("9000", "10115"),
    "Company": ("Orchard Labs", "Tern and Co"),
    "Nickname": ("skylark", "moth"),
    "Phone number": ("555 0134", "555 0187"),
}
FORMS = ("New contact", "Delivery address", "Create account", "Edit profile", "Guest list")
PRODUCTS = {
    "Desk lamp": "sun",
    "Wall clock": "clock",
    "Travel bag": "folder",
    "Headset": "music",
    "Padlock": "lock",
    "Photo frame": "photo",
    "Day planner": "calendar",
    "World map": "globe",
    "Web camera": "camera",
    "Door bell": "bell",
    "Studio mic": "mic",
    "Power bank": "battery",
}
SHOPS = ("Corner Shop", "Market", "Finds", "Good Things")
DIALOGS = (
    ("Delete this draft?", "It cannot be brought back.", "Delete", "Keep"),
    ("Allow access to photos?", "The app wants to show pictures.", "Allow", "Deny"),
    ("Update available", "Restart to use version 8.2.", "Restart", "Later"),
    ("Leave the group?", "You will get no more messages.", "Leave", "Stay"),
    ("Turn on dark mode?", "It is easier on the eyes at night.", "Turn on", "Not now"),
    ("Log out?", "You can log in again at any time.", "Log out", "Cancel"),
)
SONGS = (
    *("Paper Boats", "Northern Line", "Salt and Rain", "Kites", "Low Tide", "Glass Houses", "Second Morning"),
    *("Old Maps", "Lanterns", "Eleven", "Quiet Engines", "The Long Field"),
)
BANDS = ("The Lampposts", "Vera Lund", "Echo Park Trio", "Nine Herons", "Marta and the Moss")
CHAT_LINES = (
    *("Are you there yet?", "Almost, five minutes", "I kept you a seat", "Shall I order for you?", "Yes please, soup"),
    *(
        "Did you see the news?",
        "Call me when you can",
        "See you at eight",
        "Sounds good",
        "Which platform?",
        "Number 4",
    ),
    *("Thank you so much", "It starts to rain", "Bring an umbrella"),
)
MESSAGES = ("On my way", "See you soon", "Running late", "Good luck today", "What time works for you?")
EARLIER = ("Go back to the previous screen", "Return to where you came from", "Use the system's back action")
FURTHER = ("Scroll down to see more {things}", "Swipe up to reveal further {things}", "Look further down the {things}")
START = ("Open the {app} app", "Launch {app}", "Start the {app} application")
