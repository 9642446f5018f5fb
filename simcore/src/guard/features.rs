//! The features of a pair of texts: their names, order, and which way each may move a verdict.
//!
//! A verifier names the features that it reads, so the list may grow; what a feature means may change only together
//! with [`super::VERSION`].

/// Which way a verdict may move when a feature grows and all others stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards serving, never away.
    Up,
    /// Away from serving, never towards.
    Down,
    /// Either way: it says in what light the others are to be seen.
    Free,
}

impl Direction {
    /// The name that Python sees.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Free => "free",
        }
    }
}

macro_rules! features {
    ($($variant:ident $name:literal $direction:ident $doc:literal;)*) => {
        /// A feature; its number is its place in [`Features`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Feature { $(#[doc = $doc] $variant),* }

        /// Names in the order of [`Feature`].
        pub const NAMES: [&str; COUNT] = [$($name),*];

        /// Which way each may move a verdict, in the same order.
        pub const DIRECTIONS: [Direction; COUNT] = [$(Direction::$direction),*];

        /// How many there are.
        pub const COUNT: usize = [$($name),*].len();
    };
}

features! {
    Exact "exact" Up "1 if both texts have the same tokens in the same order.";
    Jac "jac" Up "1 − Σidf of content tokens without partner ÷ Σidf of all content tokens.";
    Rest "rest" Up "`jac` without the sentences that both texts share: what long prompts differ in.";
    Edge "edge" Up "The smaller `jac` of the first and of the last sentence: where a long prompt asks.";
    Bigram "bigram" Up "Jaccard index of the pairs of adjacent tokens.";
    WqMin "wq_min" Down "The smaller Σidf of content tokens without partner of the two sides.";
    WqMax "wq_max" Down "The larger one.";
    Rare "rare" Down "The smaller of both sides' largest idf of a content token without partner.";
    OutMin "out_min" Down "The smaller number of content tokens without partner, at most 8.";
    OutMax "out_max" Down "The larger number, at most 8.";
    EntSub "ent_sub" Down "Both sides have a name that the other lacks: how many pairs, at most 3.";
    EntOne "ent_one" Down "Exactly one side has names that the other lacks: how many, at most 3.";
    KeySub "key_sub" Down "The smaller number of names, numbers and members of closed classes that the other side lacks, at most 3.";
    KeyOne "key_one" Down "The larger one.";
    NumSub "num_sub" Down "Both sides have a number (with its unit) that the other lacks: how many pairs, at most 3.";
    NumOne "num_one" Down "Exactly one side has numbers that the other lacks: how many, at most 3.";
    Ant "ant" Down "Opposites, one on either side only; at most 2.";
    Neg "neg" Down "Difference of the numbers of negations; at most 2.";
    Inv "inv" Down "Share of adjacent inversions of the content tokens that are unique in both texts.";
    Moved "moved" Down "The same without those that only \"and\", \"or\", \"vs\" or a comma parts in both texts.";
    AdjFlip "adj_flip" Down "Adjacent content tokens in the opposite order in the other text; at most 3.";
    SwapCls "swap_cls" Down "Two names, or two members of one closed class, in opposite order, passive voice undone; at most 2.";
    Turned "turned" Down "Two words round one preposition that stand the other way round: a list to a tuple; at most 2.";
    Reversed "reversed" Down "Three words in the opposite order: who does what to whom; passive voice undone; at most 2.";
    Rebound "rebound" Down "Numbers, names and quantifiers that both texts have but before another of their shared words; at most 3.";
    RoleSwap "role_swap" Down "A preposition governs another of two shared words than in the other text; at most 2.";
    Voice "voice" Down "A verb is passive on one side only, and yet what stands before and behind it is the same; at most 2.";
    Forms "forms" Down "Shared words in another form: wins and won, a page and pages; at most 3.";
    Rotated "rotated" Down "1 if one text is the other with its beginning, two words or more, put at its end; what is asked has not moved then.";
    RoleDir "role_dir" Down "A shared word is governed by another preposition of direction; at most 2.";
    DirOne "dir_one" Down "Prepositions of direction that one text has more of; at most 3.";
    Stranded "stranded" Down "A preposition governs a shared word in one text and the question word, or nothing, in the other; at most 2.";
    PrepSub "prep_sub" Down "Both sides have a preposition that the other lacks: how many pairs, at most 2.";
    Modal "modal" Down "Must, may, can or should on one side stands for another of them on the other.";
    ModalOne "modal_one" Down "Must, may or should on one side only; at most 2.";
    Tense "tense" Down "Past, present or future on one side stands for another of them on the other.";
    PastOne "past_one" Down "1 if only one side speaks of what was.";
    ClsSub "cls_sub" Down "Two different members of one closed class, one on either side only; at most 3.";
    ClsOne "cls_one" Down "Members of a closed class on one side only, none of it on the other; at most 3.";
    WhHard "wh_hard" Down "Different questions among when, where, who, why, how many, yes or no.";
    WhSoft "wh_soft" Down "Different question words otherwise.";
    Passive "passive" Down "One side is passive with \"by\", and yet the order of what both name is the same.";
    Pronoun "pronoun" Down "A person on one side is another on the other: his, her, their, my.";
    PronounSub "pronoun_sub" Down "Both sides have a possessive pronoun or an object that the other lacks: my and his, him and me; at most 2.";
    Person "person" Down "What is mine on one side is yours on the other.";
    ModOne "mod_one" Down "Content without partner right behind a preposition that narrows: on a budget, without sugar; at most 3.";
    Degree "degree" Down "One-sided words that narrow or turn a question by themselves: free, online, worst; at most 3.";
    TimeOne "time_one" Down "One-sided references to a time: today, next week; at most 2.";
    CodeSub "code_sub" Down "Both sides have code that the other lacks: how many pairs of tokens, at most 3.";
    CodeOne "code_one" Down "Exactly one side has code that the other lacks: how many tokens, at most 3.";
    CodeOrder "code_order" Down "The same tokens of code in another order.";
    LiteralSub "literal_sub" Down "Both sides have a chunk that is meant letter for letter and that the other lacks: how many pairs, at most 2.";
    LiteralOne "literal_one" Down "Exactly one side has such chunks that the other lacks: how many, at most 2.";
    Quoted "quoted" Down "Content without partner inside quotation marks; at most 3.";
    TailOut "tail_out" Down "Content without partner in the last sentence of either text; at most 6.";
    HeadNoun "head_noun" Down "The last content token of each text has no partner in the other.";
    InPlace "in_place" Down "Texts side by side: places where content stands in place of other content; at most 3.";
    InFrame "in_frame" Down "1 if there is such a place and at least 0.85 of the tokens are outside all places.";
    PutIn "put_in" Down "Places where one text has content that the other leaves out; at most 3.";
    NegPut "neg_put" Down "Places of which only one side denies; at most 2.";
    PrepPut "prep_put" Down "Places where one preposition stands for another; at most 2.";
    PrepFrame "prep_frame" Down "1 if one preposition for another is all that differs.";
    StopPut "stop_put" Down "Places where stop words stand for others; at most 3.";
    Exchange "exchange" Down "Pairs of places whose words are exchanged; at most 2.";
    Moves "moves" Down "Words that stand in another place; at most 2.";
    Blocks "blocks" Free "Places in which the texts differ, at most 8; 9 if they have too little in common.";
    Frame "frame" Free "Share of tokens outside such places; 0 if they have too little in common.";
    Quantity "quantity" Down "Quantifiers that one text has more of: all, only, most, at least, always; at most 2.";
    QuantSub "quant_sub" Down "Both sides have a quantifier that the other lacks; at most 2.";
    Hard "hard" Down "How many kinds of differences that hardly ever leave an answer right were found; at most 4.";
    Soft "soft" Down "How many kinds of differences that may leave it right were found; at most 4.";
    Stop "stop" Up "Jaccard index of the stop words.";
    Derived "derived" Down "Partners that share only a root; at most 3.";
    Synonyms "synonyms" Down "Partners that are listed synonyms; at most 3.";
    Typos "typos" Down "Partners that a slip of the keyboard explains; at most 3.";
    Foreign "foreign" Down "1 if a text is not English, 2 if its language is unknown.";
    ForeignOut "foreign_out" Down "Tokens that tell something, without partner, where a text is not English; at most 4.";
    ForeignStop "foreign_stop" Down "Function words without partner where a text is not English; at most 4.";
    Length "length" Free "ln(1 + content tokens of the shorter text).";
    Ratio "ratio" Up "Content tokens of the shorter text ÷ those of the longer.";
    Sentences "sentences" Free "ln of the number of sentences of the longer text.";
}

/// The features of one pair, in the order of [`NAMES`].
#[derive(Clone, Debug, PartialEq)]
pub struct Features(pub [f32; COUNT]);

impl Default for Features {
    fn default() -> Self {
        Self([0.0; COUNT])
    }
}

impl Features {
    /// The value of a feature.
    pub fn get(&self, feature: Feature) -> f32 {
        self.0.get(feature as usize).copied().unwrap_or_default()
    }

    /// Sets a feature.
    pub fn set(&mut self, feature: Feature, value: f32) {
        if let Some(slot) = self.0.get_mut(feature as usize) {
            *slot = value;
        }
    }

    /// Sets a count, cut off where more of it says no more.
    pub fn count(&mut self, feature: Feature, count: usize, most: usize) {
        self.set(feature, count.min(most) as f32);
    }
}
