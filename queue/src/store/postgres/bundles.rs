//! What several transitions want to be sent, as statements on their way: those of one text
//! in one, where that can be. Each transition's come in its order; between those of two
//! there is none, since they hold different rows.

use std::collections::HashSet;
use std::sync::Arc;

use super::pipeline::{Answer, Kept, Outgoing, Text, Waiting};
use super::rows::Parameter;
use super::setwise::Does;
use crate::store::Result;
use crate::store::sql::rows::{Columns as _, FromCell as _, Value, unreadable};

/// Bytes of parameters of one statement for many; what is more goes in the next.
const BYTES: usize = 1 << 20;

/// A statement that a transition wants to be sent.
pub(super) struct Item {
    /// Whose.
    pub member: usize,
    /// Which of the answers it waits for this is, if it waits for it.
    pub answer: Option<usize>,
    pub waiting: Waiting,
}

impl Item {
    /// One that is not waited for.
    pub(super) fn left(member: usize, waiting: Waiting) -> Self {
        Self {
            member,
            answer: None,
            waiting,
        }
    }

    fn text(&self) -> &Arc<Text> {
        &self.waiting.text
    }
}

/// Of whom a statement is.
pub(super) enum Whose {
    One(usize),
    /// Its answers are numbered.
    Numbered(Vec<usize>),
    /// Nobody waits for what it answers.
    Silent,
}

impl Whose {
    /// The answer to each, by its item.
    pub(super) fn share(self, answer: Answer) -> Result<Vec<(usize, Answer)>> {
        let items = match self {
            Self::Silent => return Ok(Vec::new()),
            Self::One(item) => return Ok(vec![(item, answer)]),
            Self::Numbered(items) => items,
        };
        let mut shares: Vec<(usize, Answer)> = items
            .into_iter()
            .map(|item| (item, Answer::default()))
            .collect();
        for mut row in answer.rows {
            let number = i64::from_cell(row.cell(0)?).and_then(|n| usize::try_from(n - 1).ok());
            let share = number.and_then(|number| shares.get_mut(number));
            let (_, share) = share.ok_or_else(|| unreadable(0, "number of a row"))?;
            row.before = 1;
            share.rows.push(row);
        }
        Ok(shares)
    }
}

/// The statements for these items, and whose each is.
pub(super) fn sent_for(items: &[Item]) -> (Vec<Outgoing<'_>>, Vec<Whose>) {
    let mut lines = Lines::of(items);
    let (mut sent, mut whose) = (Vec::new(), Vec::new());
    while let Some(text) = lines.next_text(items) {
        let many = lines.of_text(items, &text);
        match together(items, &text, &many) {
            Some((one, answers)) => {
                sent.push(one);
                whose.push(match answers {
                    Does::Asks => Whose::Numbered(many),
                    Does::Adds | Does::Changes => Whose::Silent,
                });
            }
            None => {
                sent.extend(many.iter().map(|item| items[*item].waiting.outgoing()));
                whose.extend(many.into_iter().map(Whose::One));
            }
        }
    }
    (sent, whose)
}

/// One statement for all of these, which have this text.
fn together<'i>(
    items: &'i [Item],
    text: &Arc<Text>,
    many: &[usize],
) -> Option<(Outgoing<'i>, Does)> {
    let [first, _, ..] = many else { return None };
    let width = items[*first].waiting.values.len();
    let (text, does) = text.many(width)?;
    // How many rows each has changed is not told.
    if does != Does::Asks && many.iter().any(|item| items[*item].answer.is_some()) {
        return None;
    }
    let column = |at: usize| {
        let values = many
            .iter()
            .map(|item| items[*item].waiting.values.get(at).map(Kept::value));
        Parameter::array(&values.collect::<Option<Vec<Value<'_>>>>()?)
    };
    let values = (0..width).map(column).collect::<Option<_>>()?;
    Some((Outgoing { text, values }, does))
}

/// What is left of each transition's items, first to last.
struct Lines(Vec<std::collections::VecDeque<usize>>);

impl Lines {
    fn of(items: &[Item]) -> Self {
        let members = items.iter().map(|item| item.member + 1).max();
        let mut lines = vec![std::collections::VecDeque::new(); members.unwrap_or(0)];
        for (at, item) in items.iter().enumerate() {
            lines[item.member].push_back(at);
        }
        Self(lines)
    }

    /// The text that goes next: one that nobody has further behind, so that all go together.
    fn next_text(&self, items: &[Item]) -> Option<Arc<Text>> {
        let fronts = || self.0.iter().filter_map(|line| line.front());
        let behind = |text: &Arc<Text>| {
            let rest = self.0.iter().flat_map(|line| line.iter().skip(1));
            rest.into_iter()
                .any(|item| Arc::ptr_eq(items[*item].text(), text))
        };
        let texts = || fronts().map(|item| items[*item].text());
        texts()
            .find(|text| !behind(text))
            .or_else(|| texts().next())
            .cloned()
    }

    /// Takes those of this text that stand in front and can go together.
    fn of_text(&mut self, items: &[Item], text: &Arc<Text>) -> Vec<usize> {
        let (mut many, mut keys, mut bytes) = (Vec::new(), HashSet::new(), 0);
        let changes = items
            .iter()
            .find(|item| Arc::ptr_eq(item.text(), text))
            .and_then(|item| text.many(item.waiting.values.len()))
            .is_some_and(|(_, does)| does == Does::Changes);
        for line in &mut self.0 {
            let Some(&front) = line.front() else { continue };
            let waiting = &items[front].waiting;
            if !Arc::ptr_eq(&waiting.text, text) {
                continue;
            }
            let more: usize = waiting.values.iter().map(Kept::size).sum();
            if !many.is_empty() && bytes + more > BYTES {
                continue;
            }
            if changes && !keys.insert(waiting.values.first().map(Kept::value)) {
                continue;
            }
            bytes += more;
            many.push(front);
            line.pop_front();
        }
        many
    }
}
