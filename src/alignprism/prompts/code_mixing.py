"""Common words with the English ones that speakers put in their place; few, mild and unambiguous."""

from __future__ import annotations

WORDS: dict[str, dict[str, str]] = {
    "hi": {
        "समय": "time", "पैसा": "money", "पैसे": "money", "लोग": "people", "दोस्त": "friend", "सवाल": "question",
        "जवाब": "answer", "समस्या": "problem", "संदेश": "message", "शहर": "city", "स्कूल": "school", "विद्यालय": "school",
        "परिवार": "family", "क्योंकि": "because", "कृपया": "please", "आज": "today", "कल": "tomorrow", "काम": "work",
        "सरकार": "government", "समाचार": "news", "पुलिस": "police", "जानकारी": "information", "कहानी": "story",
    },
    "ar": {
        "الوقت": "time", "المال": "money", "الناس": "people", "صديق": "friend", "سؤال": "question", "جواب": "answer",
        "مشكلة": "problem", "رسالة": "message", "مدينة": "city", "مدرسة": "school", "المدرسة": "school",
        "عائلة": "family", "لأن": "because", "رجاء": "please", "اليوم": "today", "غدا": "tomorrow", "العمل": "work",
        "الحكومة": "government", "أخبار": "news", "الشرطة": "police", "معلومات": "information", "قصة": "story",
    },
    "es": {
        "tiempo": "time", "dinero": "money", "gente": "people", "amigo": "friend", "pregunta": "question",
        "respuesta": "answer", "problema": "problem", "mensaje": "message", "ciudad": "city", "escuela": "school",
        "familia": "family", "porque": "because", "hoy": "today", "mañana": "tomorrow", "trabajo": "work",
        "gobierno": "government", "noticias": "news", "policía": "police", "información": "information", "historia": "story",
    },
    "fr": {
        "temps": "time", "argent": "money", "gens": "people", "ami": "friend", "réponse": "answer",
        "problème": "problem", "ville": "city", "école": "school", "famille": "family",
        "demain": "tomorrow", "travail": "work", "gouvernement": "government",
        "nouvelles": "news", "informations": "information", "histoire": "story",
    },
    "ru": {
        "время": "time", "деньги": "money", "люди": "people", "друг": "friend", "вопрос": "question", "ответ": "answer",
        "проблема": "problem", "сообщение": "message", "город": "city", "школа": "school", "семья": "family",
        "пожалуйста": "please", "сегодня": "today", "завтра": "tomorrow", "работа": "work", "правительство": "government",
        "новости": "news", "полиция": "police", "информация": "information", "история": "story", "историю": "story",
    },
    "sr": {
        "vreme": "time", "novac": "money", "ljudi": "people", "prijatelj": "friend", "pitanje": "question",
        "odgovor": "answer", "poruka": "message", "poruku": "message", "grad": "city",
        "škola": "school", "porodica": "family", "molim": "please", "danas": "today", "sutra": "tomorrow",
        "posao": "work", "vlada": "government", "vesti": "news", "policija": "police", "informacije": "information",
        "време": "time", "новац": "money", "људи": "people", "пријатељ": "friend", "питање": "question",
        "одговор": "answer", "проблем": "problem", "порука": "message", "поруку": "message", "град": "city",
        "школа": "school", "породица": "family", "молим": "please", "данас": "today", "сутра": "tomorrow",
        "посао": "work", "влада": "government", "вести": "news", "полиција": "police", "информације": "information",
    },
    "tl": {
        "oras": "time", "pera": "money", "kaibigan": "friend", "tanong": "question", "sagot": "answer",
        "problema": "problem", "mensahe": "message", "lungsod": "city", "paaralan": "school", "pamilya": "family",
        "dahil": "because", "ngayon": "today", "bukas": "tomorrow", "trabaho": "work", "pamahalaan": "government",
        "balita": "news", "pulis": "police", "impormasyon": "information", "kuwento": "story", "kwento": "story",
    },
}  # fmt: skip
"""Language to its words (lower case) to English."""
