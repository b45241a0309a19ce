"""Run in the copy, with Debian's Selenium: Roundcube, as a person uses it. It writes screenshots."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as until
from selenium.webdriver.support.wait import WebDriverWait

# Returns false until the editor of HTML text is there.
_SET_BODY = """
const editor = window.tinymce && tinymce.activeEditor;
if (!editor || !editor.initialized) return false;
editor.setContent('<p>' + arguments[0] + '</p>' + editor.getContent());
return true;
"""
URL = "http://127.0.0.1:8080/"
SECONDS = 40


class Roundcube:
    """A session of alice. Each method waits until the page shows that it is done."""

    def __init__(self, pictures: Path) -> None:
        options = Options()
        for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
            options.add_argument(word)
        self._pictures = pictures
        self._driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self._wait = WebDriverWait(self._driver, SECONDS)

    def log_in(self, user: str, password: str) -> None:
        self._driver.get(URL)
        self._type("#rcmloginuser", user)
        self._type("#rcmloginpwd", password)
        self._click("#rcmloginsubmit")
        self._see("#messagelist")

    def write(self, **fields: str) -> None:
        """Fill in a new message."""
        self._driver.get(f"{URL}?_task=mail&_action=compose")
        self._compose(**fields)

    def send(self, name: str = "") -> None:
        """Send the message that is being written."""
        if name:
            self.picture(name)
        self._click("button.send")
        self._wait.until(until.url_contains("_mbox="))

    def attach(self, path: str) -> None:
        field = self._driver.find_element(By.CSS_SELECTOR, "input[type=file][name='_attachments[]']")
        field.send_keys(path)
        self._see("#attachment-list li:not(.uploading)")

    def answer(self, subject: str, text: str) -> None:
        """Write a reply to the message with this subject in the inbox."""
        uid = self._find(subject)
        self._driver.get(f"{URL}?_task=mail&_action=compose&_mbox=INBOX&_reply_uid={uid}&_all=all")
        self._compose(body=text)

    def forward(self, subject: str, to: str) -> None:
        """Write a message with the message with this subject as an attachment."""
        uid = self._find(subject)
        self._driver.get(f"{URL}?_task=mail&_action=compose&_mbox=INBOX&_forward_uid={uid}&_attachment=1")
        self._compose(to=to, body="See below.")

    def picture(self, name: str) -> None:
        self._driver.save_screenshot(str(self._pictures / f"{name}.png"))

    def quit(self) -> None:
        self._driver.quit()

    def draft(self) -> None:
        self._click("a.save.draft")
        self._see("#messagestack .confirmation")

    def _compose(self, to: str = "", cc: str = "", bcc: str = "", subject: str = "", body: str = "") -> None:
        self._see("#composebody")
        for name, value in (("_to", to), ("_cc", cc), ("_bcc", bcc)):
            if value:
                self._driver.execute_script(
                    "const f = document.getElementById(arguments[0]); f.value = arguments[1];"
                    " f.dispatchEvent(new Event('change'));", name, value)  # fmt: skip
        if subject:
            self._type("#compose-subject", subject)
        if body:
            self._wait.until(lambda driver: driver.execute_script(_SET_BODY, body))

    def _find(self, subject: str) -> str:
        """Return the UID of a message in the inbox."""
        self._driver.get(f"{URL}?_task=mail&_mbox=INBOX")
        where = (By.XPATH, f"//table[@id='messagelist']//a[contains(., '{subject}')]")
        link = self._wait.until(until.presence_of_element_located(where))
        return parse_qs(urlsplit(str(link.get_attribute("href"))).query)["_uid"][0]

    def _see(self, selector: str) -> None:
        self._wait.until(until.presence_of_element_located((By.CSS_SELECTOR, selector)))

    def _click(self, selector: str) -> None:
        self._wait.until(until.element_to_be_clickable((By.CSS_SELECTOR, selector))).click()

    def _type(self, selector: str, text: str) -> None:
        field = self._wait.until(until.visibility_of_element_located((By.CSS_SELECTOR, selector)))
        field.clear()
        field.send_keys(text)


def main() -> None:
    """Send a message, a draft, a reply and a forwarded message."""
    password, directory = sys.argv[1:]
    session = Roundcube(Path(directory))
    try:
        session.log_in("alice", password)
        session.picture("inbox")
        attachment = Path(directory, "Größe.txt")
        attachment.write_text("an attachment\n")
        session.write(
            to="bob@example.net", cc="carol@example.net", bcc="dave@example.net",
            subject="roundcube: Grüße", body="Schöne Grüße",
        )  # fmt: skip
        session.attach(str(attachment))
        session.send("compose")
        session.picture("sent")
        session.write(to="bob@example.net", subject="roundcube: one line", body="ä" * 3000)
        session.draft()
        session.send()
        session.answer("to alice", "Thank you.")
        session.send("reply")
        session.forward("to alice", "bob@example.net")
        session.send()
    except BaseException:
        session.picture("failed")
        raise
    finally:
        session.quit()


if __name__ == "__main__":
    main()
