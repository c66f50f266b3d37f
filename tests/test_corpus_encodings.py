"""Old encodings: which one a text is in, and what a lost byte of it leaves."""

import io
import json

import pytest

from core.corpus import encodings, reading
from core.corpus.formats import detection
from core.corpus.sources import Source
from tests.conftest import slow_but

CHINESE = [
    "守灯塔的人每天晚上点亮灯，在日记里写下风向和过往的船只。",
    "他说海上没有两个完全相同的夜晚，所以每一页都值得认真写。",
    "春天的时候，村里的孩子们会带着面包和苹果来看他，请他讲从前的故事。",
    "如果天气不好，他们就留在塔里过夜，听着雨声慢慢睡着。",
    "后来大家都离开了小岛，只有那盏灯还在照着空空的港口。",
]
TAIWANESE = [
    "守燈塔的人每天晚上點亮燈，在日記裡寫下風向和過往的船隻。",
    "他說海上沒有兩個完全相同的夜晚，所以每一頁都值得認真寫。",
    "春天的時候，村裡的孩子們會帶著麵包和蘋果來看他，請他講從前的故事。",
    "如果天氣不好，他們就留在塔裡過夜，聽著雨聲慢慢睡著。",
    "後來大家都離開了小島，只有那盞燈還在照著空空的港口。",
]
JAPANESE = [
    "灯台守は毎晩ランプに火をともし、風の向きと通り過ぎた船のことを日記に書きました。",
    "海には同じ夜が二つとないので、どのページも大切に書くべきだと彼は言いました。",
    "春になると村の子供たちがパンやリンゴを持って来て、昔の話を聞かせてほしいと頼みます。",
    "天気が悪い日には塔に泊まり、雨の音を聞きながらゆっくり眠りました。",
    "やがてみんなは島を出て行き、その明かりだけが今も静かな港を照らしています。",
]
KOREAN = [
    "등대지기는 매일 밤 등불을 켜고 바람의 방향과 지나간 배를 일기에 적었습니다.",
    "바다에는 똑같은 밤이 두 번 오지 않으니 모든 쪽을 정성껏 써야 한다고 그는 말했습니다.",
    "봄이 되면 마을 아이들이 빵과 사과를 가지고 와서 옛날 이야기를 들려 달라고 했습니다.",
    "날씨가 나쁜 날에는 탑에서 자면서 빗소리를 들었습니다.",
    "나중에는 모두 섬을 떠났고 그 등불만 아직도 조용한 항구를 비추고 있습니다.",
]
RUSSIAN = [
    "Смотритель каждый вечер зажигал лампу и писал в дневнике о ветре и кораблях.",
    "Он говорил, что в море нет двух одинаковых ночей и каждая страница важна.",
    "Весной дети из деревни приносили хлеб и яблоки и просили рассказать о прошлом.",
    "В плохую погоду они ночевали в башне и засыпали под шум дождя.",
    "Потом все уехали с острова, и только огонь ещё светит над пустой гаванью.",
]
OLD = [
    *((CHINESE, name) for name in ("gb18030", "gb2312")), *((TAIWANESE, name) for name in ("big5", "cp950", "gb18030")),
    *((JAPANESE, name) for name in ("cp932", "euc_jp")), (KOREAN, "cp949"),
    *((RUSSIAN, name) for name in ("koi8-r", "cp1251", "cp866")),
]  # fmt: skip
FORMS = ("a.txt", "a.jsonl", "a.json", "a.csv", "a.html")


def whole(texts: list[str], name: str) -> str:
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    return {
        "a.txt": "\n%\n".join(texts), "a.jsonl": "\n".join(rows), "a.json": f"[{', '.join(rows)}]",
        "a.csv": "text\n" + "".join(f'"{text}"\n' for text in texts),
        "a.html": "<html><body>" + "".join(f"<p>{text}</p>\n" for text in texts) + "</body></html>",
    }[name]  # fmt: skip


def kept(name: str, data: bytes) -> list[str]:
    """The texts of the rows that are kept of a file."""
    file = detection.open_source(Source(name, lambda: io.BytesIO(data), len(data)))
    return [row.row["text"] for row in reading.read(file, reading.Options()) if isinstance(row, reading.Row)]


def is_within(text: str, source: str) -> bool:
    """Whether a text has the characters of another in their order, where it is not lost."""
    left = iter(source)
    return all(char in left for char in text if char != "\ufffd" and not char.isspace())


@pytest.mark.parametrize("name", slow_but(["a.txt", "a.jsonl"], FORMS))
@pytest.mark.parametrize(("texts", "encoding"), OLD, ids=[f"{encoding}-{texts[0][:2]}" for texts, encoding in OLD])
def test_a_byte_that_is_lost_leaves_no_other_character(texts, encoding, name):
    text = whole(texts, name)
    data, foreign = text.encode(encoding), []
    assert "".join(kept(name, data)).split() == ("\n\n" if name == "a.html" else "").join(texts).split()
    places = [at for at, byte in enumerate(data) if byte > 127][:: 3 if name == "a.txt" else 11]
    for at in places:
        rows = kept(name, data[:at] + data[at + 1 :])
        assert len(rows) >= (1 if name in ("a.html", "a.json") else len(texts) - 1)
        foreign += [row for row in rows if not is_within(row, text)]
    assert foreign == []


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("我在中關村看到卡拉OK和MTV，還有A股、T恤。", "big5"), ("他在A班，她在B班，我在C班，大家都說好。", "cp950"),
        ("東京･大阪･京都｡ はい｡ ｢ﾃｽﾄ｣ ｶﾀｶﾅ ﾒｲ", "cp932"), ("彼はAさんとBさんに会った。「d」と書く。草ｗ", "cp932"),
        ("他姓镕，名喆；堃和犇是他的朋友。魑魅魍魉。", "gb18030"), ("Привет, 你好，这里有俄文：Как дела?", "gb18030"),
        ("笑死😂 ①②③ ┌──┐ ＡＢＣ　αβγ 的符号", "gb18030"), ("똠방각하 펲시콜라 믜 뷁 韓國 大韓民國 사람이 있다.", "cp949"),
        ("麵包超人の日記，ㄅㄆㄇ注音，一二。", "cp950"),
    ],
)  # fmt: skip
def test_what_is_rare_in_a_sound_text_stays(text, encoding):
    head = "\n".join([*(JAPANESE if encoding == "cp932" else TAIWANESE), text]).encode(encoding, "ignore")
    decode = encodings.LineDecoder(encoding, head)
    assert decode(1, text.encode(encoding)) == encodings.Line(1, text)


def test_half_width_marks_of_a_whole_file_stay():
    lines = [f"第{number}に､これは試験です｡" for number in range(9)]
    assert kept("a.txt", "\n%\n".join(lines).encode("cp932")) == lines


def test_a_line_of_utf_8_in_a_file_of_two_bytes_is_read():
    lines = [line.encode("gb18030") for line in CHINESE * 2]
    lines[2] = CHINESE[2].encode()
    assert kept("a.txt", b"\n%\n".join(lines)) == CHINESE * 2


LATIN = {
    "fr": "Le gardien du phare écrivit dans son journal : la mer était calme, même près des récifs où ça gîte.",
    "de": "Der Leuchtturmwärter schrieb ins Tagebuch, dass die See ruhig sei; große Möwen flögen über die Küste.",
    "es": "El farero escribió en su diario que el mar estaba tranquilo. ¿Mañana? Después lloverá según él, ¡qué año!",
    "it": "Il guardiano scrisse perché il mare è calmo; così la città può dormire, e più tardi verrà la pioggia.",
    "tr": "Fener bekçisi günlüğüne yazdı: deniz sakindi, ışık İstanbul'dan görünüyordu; şimdi yağmur başlıyor.",
    "pl": "Latarnik zapisał w dzienniku, że morze jest spokojne; później przyszła mgła i źródło światła zgasło.",
    "cs": "Strážce majáku napsal do deníku, že moře je klidné; později přišla mlha a světlo ještě zářilo.",
}


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        *((language, name) for language in ("fr", "de", "es", "it") for name in ("cp1252", "cp850", "mac_roman")),
        *(("tr", name) for name in ("cp1254", "iso8859_9", "cp857")),
        *((language, name) for language in ("pl", "cs") for name in ("cp1250", "iso8859_2", "cp852")),
    ],
)
def test_a_text_of_latin_letters_is_read_in_its_encoding(language, encoding):
    text = LATIN[language]
    assert kept("a.txt", text.encode(encoding)) == [text]
    assert kept("a.jsonl", "".join(f'{{"text": "{text}"}}\n' for _ in "12").encode(encoding)) == [text, text]
